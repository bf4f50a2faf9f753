import { HighLevel, ISessionData, SessionStorage } from '@gohighlevel/api-client';

export interface EvergreenOptions {
  /** The address of evergreen's internal listener, such as `http://127.0.0.1:9080`. */
  url: string;
  /** A key with the scope `tokens`. */
  key: string;
  /** The name of the app, if locations have several apps and the key is not for one. */
  app?: string;
}

/** Gives GHL's SDK the access tokens that evergreen keeps fresh. A token is used again for up to 30 s. */
export declare class EvergreenSessionStorage extends SessionStorage {
  constructor(options: EvergreenOptions);

  /**
   * Lets the SDK repeat a call after a 401 with a newer token of evergreen. Without this, the caller gets the 401.
   * Returns the same client. Throws if this version of the SDK is not known.
   */
  attach(ghl: HighLevel): HighLevel;

  /** @param resourceId The id of a location or a company. Rejects with evergreen's message if there is no token. */
  getSession(resourceId: string): Promise<ISessionData>;
  getAccessToken(resourceId: string): Promise<string>;
  /** Always null, since refresh tokens do not leave evergreen. */
  getRefreshToken(resourceId: string): Promise<null>;
  /** Always rejects, since evergreen keeps the tokens. */
  setSession(resourceId: string, sessionData: ISessionData): Promise<void>;
  /** Forgets the token, so that the next call asks evergreen. It ends no installation. */
  deleteSession(resourceId: string): Promise<void>;
  setClientId(clientId: string): void;
  init(): Promise<void>;
  disconnect(): Promise<void>;
  createCollection(name: string): Promise<void>;
  getCollection(name: string): Promise<undefined>;
}
